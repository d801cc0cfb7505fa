#!/bin/sh
# Runs one program so that it outlives whoever started it: sh -s RUN_FOLDER PROGRAM [ARGUMENT...] <launcher.sh
#
# It is read from its standard input, so that nothing depends on where it lay: the folder of a one-file
# binary goes when the agent goes. So the program below needs a standard input of its own.
#
# The folder holds three FIFOs: stdout, stderr and events. This process holds them open for reading and
# writing, so that a reader that dies neither kills the program (SIGPIPE) nor takes unread output along.
# It leaves in the folder who runs (launcher, process: /proc/<pid>/stat, for pid and start time) and the
# exit code, each one line written by one write: a file without a newline at its end counts as absent.
# The same is announced through events, which also stands in where the disk takes no file.
#
# The program gets a session of its own: no signal that it, or somebody in its group, sends to the group
# reaches this process. Handlers, not ignored signals: what a shell ignores its children ignore as well.
run=$1
shift
trap : HUP INT TERM
exec 3<>"$run/stdout" 4<>"$run/stderr" 5<>"$run/events" || exit 125
read -r stat </proc/self/stat
printf '%s\n' "$stat" >"$run/launcher"
(
    # /proc/self is this subshell ($$ is not); pid and start time stay the same over both execs.
    read -r stat </proc/self/stat
    printf '%s\n' "$stat" >"$run/process"
    printf 'started %s\n' "$stat" >&5
    exec setsid "$@" </dev/null >&3 2>&4 3>&- 4>&- 5>&-
)
code=$?
printf '%s\n' "$code" >"$run/exit_code"
printf 'ended %s\n' "$code" >&5
# Unread output lives as long as somebody holds the FIFOs. Whoever has read it kills this process; if
# nobody ever comes, it goes after a week.
exec sleep 604800
