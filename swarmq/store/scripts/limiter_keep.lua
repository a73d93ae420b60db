-- The calls of these tickets are still under way: their permits are good for some time more. Tickets whose permits have
-- expired meanwhile, or were given back, stay without.
-- KEYS: permits
-- ARGV: seconds, tickets ...
local clock = redis.call('TIME')
local until_ = string.format('%.6f', tonumber(clock[1]) + tonumber(clock[2]) / 1000000 + tonumber(ARGV[1]))
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], 'XX', until_, ARGV[i]) end
return #ARGV - 1
