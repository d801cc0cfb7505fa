(select count(*) from (select 1 from {relation} {where}) as counted)
