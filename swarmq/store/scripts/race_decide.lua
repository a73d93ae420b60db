-- uses: swarm budget branch
-- Let a branch win the race for its subtask by its score. Who has won before stays the winner.
-- KEYS: swarm
-- ARGV: subtask id, branch id
-- Returns the race as it ended.
local swarm = load_swarm()
if swarm.err then return swarm end
win_race(swarm, ARGV[1], ARGV[2], 'score')
return redis.call('HGET', BASE .. 'races', ARGV[1])
