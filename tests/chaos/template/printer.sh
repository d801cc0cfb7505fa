# Prints numbered lines by three ways, and witnesses each line once it is written:
#   out, err  straight into the pipes that Terraform was given: what is witnessed has left it
#   ui        through Terraform, which may die with it
# The witness is a file outside of the workspace, so that what really happened is known whatever
# becomes of the agent, its disk and the database. Every line is made by one write of less than 4 KiB.
exec 3>"/proc/$PPID/fd/1" 4>"/proc/$PPID/fd/2" 5>>"$WITNESS_DIR/$TOKEN" 9>>"$WITNESS_DIR/$STACK.lock"
printf 'start %s %s\n' "$$" "$(date +%s.%N)" >&5
flock --nonblock 9 || printf 'overlap %s %s\n' "$$" "$(date +%s.%N)" >&5
n=1
while [ "$n" -le "$LINES_EACH" ]; do
    width=$((n * 37 % 397 + 1))
    printf "chaos $TOKEN out $n %0${width}d é漢🌱\n" 0 >&3 && printf 'out %s\n' "$n" >&5
    printf "chaos $TOKEN err $n %0${width}d é漢🌱\n" 0 >&4 && printf 'err %s\n' "$n" >&5
    printf "chaos $TOKEN ui $n %0${width}d é漢🌱\n" 0 && printf 'ui %s\n' "$n" >&5
    [ $((n % BURST)) -ne 0 ] || sleep "$PAUSE_S" 3>&- 4>&- 5>&- 9>&-
    n=$((n + 1))
done
printf 'end %s %s\n' "$$" "$(date +%s.%N)" >&5
