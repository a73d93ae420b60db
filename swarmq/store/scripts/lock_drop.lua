-- Give a lock back; one that another has taken meanwhile stays.
-- KEYS: the lock
-- ARGV: who has taken it
-- Returns 1.
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
