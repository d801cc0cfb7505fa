-- 50 MB of log: chunks of 10,000 bytes, each 100 lines of 100 bytes; the first line is one of its kind.
insert into provision_logs (provision_id, attempt, seq, byte_offset, stream_type, log_chunk)
select %(run)s, 1, seq, seq * 10000::bigint, 'STDOUT', (
  select string_agg(rpad(case when seq = 0 and line = 0 then 'the needle ' else format('line %%s ', seq * 100 + line) end, 99, '.'),
    e'\n' order by line) || e'\n'
  from generate_series(0, 99) line)
from generate_series(0, %(chunks)s - 1) seq
