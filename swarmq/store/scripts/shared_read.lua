-- uses: swarm
-- Read shared results; what has expired is removed on the way.
-- KEYS: swarm
-- ARGV: keys ...
-- Returns the results that there are.
local shared, index = BASE .. 'shared', BASE .. 'shared-index'
local found = {}
for _, key in ipairs(ARGV) do
  local about = redis.call('HGET', index, key)
  local expires = about and cjson.decode(about).expires_at or 0
  if about and expires > 0 and expires <= NOW then
    redis.call('HINCRBY', BASE .. 'counters', 'shared_bytes', -redis.call('HSTRLEN', shared, key))
    redis.call('HDEL', shared, key)
    redis.call('HDEL', index, key)
  elseif about then
    found[#found + 1] = redis.call('HGET', shared, key)
  end
end
return found
