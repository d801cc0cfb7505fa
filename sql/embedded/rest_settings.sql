-- Settings of one request, local to its transaction and in the order given ("role" among them).
select set_config(name, value, true)
from unnest(%s::text[], %s::text[]) as setting (name, value)
