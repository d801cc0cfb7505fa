-- Claims of every cluster go side by side, as they otherwise do in large ones only.
create or replace function tendril_private.side_by_side_from() returns int
language sql immutable parallel safe
return 1;
