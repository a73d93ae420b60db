-- uses: swarm job
-- Take a job: its fencing token grows by one and a lease starts.
-- KEYS: swarm
-- ARGV: job, call id, worker, lease in seconds
-- Returns status (claimed, held, done, missing), token, and whether it was taken over from a holder that fell silent.
local swarm = load_swarm()
if swarm.err then return redis.call('EXISTS', SWARM) == 0 and {'missing', 0, 0} or swarm end
local job = load_job()
if job.done then return {'done', tonumber(job.token), 0} end
local lease = stamp(NOW + tonumber(ARGV[4]))
if job.claim == ARGV[2] then  -- the reply to this very call was lost
  set_job(swarm, 'until', lease)
  return {'claimed', tonumber(job.token), tonumber(redis.call('HGET', JOBS, ARGV[1] .. ':took_over') or 0)}
end
if job.until_ > NOW then return {'held', tonumber(job.token), 0} end
local token, took_over = tonumber(job.token) + 1, job.claim and 1 or 0
set_job(swarm, 'token', token, 'until', lease, 'claim', ARGV[2], 'worker', ARGV[3], 'took_over', took_over)
return {'claimed', token, took_over}
