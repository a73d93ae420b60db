-- uses: swarm job
-- Take a job: its fencing token grows by one and a lease starts.
-- KEYS: swarm
-- ARGV: job, call id, worker, lease in seconds
-- Returns status (claimed, held, done, missing) and token.
local swarm = load_swarm()
if swarm.err then return redis.call('EXISTS', SWARM) == 0 and {'missing', 0} or swarm end
local job = load_job()
if job.done then return {'done', tonumber(job.token)} end
local lease = stamp(NOW + tonumber(ARGV[4]))
if job.claim == ARGV[2] then  -- the reply to this very call was lost
  set_job(swarm, 'until', lease)
  return {'claimed', tonumber(job.token)}
end
if job.until_ > NOW then return {'held', tonumber(job.token)} end
local token = tonumber(job.token) + 1
set_job(swarm, 'token', token, 'until', lease, 'claim', ARGV[2], 'worker', ARGV[3])
return {'claimed', token}
