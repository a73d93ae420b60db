-- uses: swarm branch
-- Note that a queued branch's message has been sent again.
-- KEYS: swarm
-- ARGV: branch id
-- Returns 1 where it is queued.
local branch = load_branch(ARGV[1])
if not branch or branch.state ~= 'queued' then return 0 end
redis.call('HSET', branch.key, 'queued_at', stamp(NOW))
return 1
