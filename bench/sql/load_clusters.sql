-- Clusters and tokens, made the owner's way; answers {cluster_id, token} in order.
select public.register_cluster('bench ' || i, 1000) from generate_series(1, %(count)s) i
