-- uses: swarm job
-- Mark a job as done for good. Only the holder of the newest token may; repeating it is harmless.
-- KEYS: swarm
-- ARGV: job, token
local swarm = load_swarm()
if swarm.err then return swarm end
local job = load_job()
if job.done == ARGV[2] then return 1 end
if job.done or not job.claim or job.token ~= ARGV[2] then
  return refuse('LEASELOST', 'job ' .. ARGV[1] .. ' of swarm ' .. ID .. ' has another holder')
end
set_job(swarm, 'until', '0', 'done', ARGV[2])
return 1
