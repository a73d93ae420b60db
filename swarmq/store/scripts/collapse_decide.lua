-- uses: swarm budget branch
-- One look of the collapse controller: its state, what it found, and the marks of the branches that it stops, all or
-- nothing. Only one look follows another: who looked at an older state decides nothing, so that two controllers, each
-- of which spares another branch, cannot stop all.
-- KEYS: swarm
-- ARGV: number of the look before, call id, state, entry ('' for none), scores kept, branch id, reason, event, audit entry ...
-- Returns 'stale', or 'decided' and the ids of the branches that it has marked.
local swarm = load_swarm()
if swarm.err then return swarm end
local key, marked = BASE .. 'collapse', {}
local seen = redis.call('HMGET', key, 'looks', 'call', 'marked')
if seen[2] == ARGV[2] then  -- the reply to this very call was lost
  return {'decided', unpack(cjson.decode(seen[3]))}
end
if (seen[1] or '0') ~= ARGV[1] or swarm.stop or swarm.paused then return {'stale'} end
for i = 6, #ARGV, 4 do
  local branch = load_branch(ARGV[i])
  if branch and not branch.err and branch.state == 'running' and not branch.cancel_reason then
    redis.call('HSET', branch.key, 'cancel_reason', ARGV[i + 1])
    emit(swarm, ARGV[i + 2])
    redis.call('XADD', BASE .. 'audit', '*', 'e', ARGV[i + 3])
    marked[#marked + 1] = branch.id
  end
end
if ARGV[4] ~= '' then redis.call('XADD', BASE .. 'scores', 'MAXLEN', '~', ARGV[5], '*', 'e', ARGV[4]) end
redis.call('HSET', key, 'v', VERSION, 'looks', tonumber(ARGV[1]) + 1, 'call', ARGV[2], 'state', ARGV[3],
  'marked', #marked > 0 and cjson.encode(marked) or '[]')
return {'decided', unpack(marked)}
