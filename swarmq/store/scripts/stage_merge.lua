-- uses: swarm
-- Record what merging a branch did, so that a crash resumes behind it. The first report stays: a holder that was paused
-- and wakes up late may have seen an older integration branch.
-- KEYS: swarm
-- ARGV: stage, branch id, report
local swarm = load_swarm()
if swarm.err then return swarm end
local stage = BASE .. 'stage:' .. ARGV[1]
if redis.call('EXISTS', stage) == 0 then return refuse('NOTFOUND', 'swarm ' .. ID .. ' has no stage ' .. ARGV[1]) end
redis.call('HSETNX', stage, 'merge:' .. ARGV[2], ARGV[3])
return 1
