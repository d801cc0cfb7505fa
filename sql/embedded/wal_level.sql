-- Whether the server's log can be decoded.
select current_setting('wal_level');
