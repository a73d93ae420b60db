-- uses: swarm budget
-- Take a call that no branch makes (plan, synthesis) from the swarm's budgets. Reserving again replaces.
-- KEYS: swarm
-- ARGV: what the call is for, tokens and nano-USD that it is expected to use
-- Returns the limit that leaves no room for it, and 'budget' where it has to wait; '' for none.
local swarm = load_swarm()
if swarm.err then return swarm end
local counters, jobs = BASE .. 'counters', BASE .. 'jobs'
local names = {ARGV[1] .. ':' .. RESERVED[2], ARGV[1] .. ':' .. RESERVED[3]}
local f = redis.call('HMGET', jobs, unpack(names))
local own = {0, number(f[1]), number(f[2])}
local most = redis.call('HMGET', SWARM, 'max_tokens', 'max_nano_usd')
local tokens, nano_usd = tonumber(ARGV[2]), tonumber(ARGV[3])
local limit, hold = room_for(counters, false, most[1], most[2], own, tokens, nano_usd)
if limit ~= '' or hold ~= '' then tokens, nano_usd = 0, 0 end
hold_reservation(counters, own, 0, tokens, nano_usd)
redis.call('HSET', jobs, names[1], tokens, names[2], nano_usd)
for _, key in ipairs({counters, jobs}) do keep(swarm, key) end
return {limit, hold}
