-- uses: pods
-- The pods of these tickets still run: their permits are good for some time more, and the keys stay, however long nobody
-- asks for another one. Tickets whose permits have expired meanwhile, or were given back, stay without.
-- ARGV: seconds, tickets ...
local good_until = stamp(NOW + tonumber(ARGV[1]))
for i = 2, #ARGV do redis.call('ZADD', PERMITS, 'XX', good_until, ARGV[i]) end
keep_keys()
return #ARGV - 1
