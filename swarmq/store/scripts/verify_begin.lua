-- uses: swarm
-- Begin to verify a tree with some commands, or learn that it has passed them before.
-- KEYS: swarm
-- ARGV: digest of tree and commands, id of this run
-- Returns the report of a run that passed ('' where none has), and the id of the run before this one ('': there was none).
local swarm = load_swarm()
if swarm.err then return swarm end
local key, digest, run = BASE .. 'verified', ARGV[1], ARGV[2]
local known = redis.call('HMGET', key, 'passed:' .. digest, 'run:' .. digest, 'before:' .. digest)
if known[1] then return {known[1], ''} end
if known[2] == run then return {'', known[3] or ''} end  -- sent twice
redis.call('HSET', key, 'run:' .. digest, run, 'before:' .. digest, known[2] or '')
keep(swarm, key)
return {'', known[2] or ''}
