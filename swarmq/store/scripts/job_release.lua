-- uses: swarm job
-- Give a job back; for anybody but the holder it does nothing.
-- KEYS: swarm
-- ARGV: job, token
local swarm = load_swarm()
local job = load_job()
if swarm.err or job.token ~= ARGV[2] or not job.claim then return 0 end
set_job(swarm, 'until', '0')
redis.call('HDEL', JOBS, ARGV[1] .. ':claim')
return 1
