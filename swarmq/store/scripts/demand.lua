-- Replace a set by what the records say now.
-- KEYS: swarmq:demand:QUEUE
-- ARGV: members ...
redis.call('DEL', KEYS[1])
for i = 1, #ARGV, 1000 do redis.call('SADD', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV))) end
return #ARGV
