-- Take a lock, or keep it: the caller that has it gets it again.
-- KEYS: the lock
-- ARGV: who takes it, lease in ms
-- Returns 1 to the holder.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
