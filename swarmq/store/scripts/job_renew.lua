-- uses: swarm job
-- Prolong the lease of a job.
-- KEYS: swarm
-- ARGV: job, token, lease in seconds
local swarm = load_swarm()
local job = load_job()
if swarm.err or job.done or not job.claim or job.token ~= ARGV[2] then
  return refuse('LEASELOST', 'job ' .. ARGV[1] .. ' of swarm ' .. ID .. ' has another holder')
end
set_job(swarm, 'until', stamp(NOW + tonumber(ARGV[3])))
return 1
