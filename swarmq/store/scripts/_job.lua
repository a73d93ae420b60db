-- A job of a swarm is a lease without a record: fields <name>:token, :until, :worker, :claim of the hash jobs.
-- Needs _swarm.lua; ARGV[1] is the job's name.
local JOBS = BASE .. 'jobs'
local function load_job()
  local f = redis.call('HMGET', JOBS, ARGV[1] .. ':token', ARGV[1] .. ':until', ARGV[1] .. ':claim', ARGV[1] .. ':done')
  return {token = f[1] or '0', until_ = tonumber(f[2] or 0), claim = f[3], done = f[4]}
end
local function set_job(swarm, ...)
  local pairs_ = {...}
  for i = 1, #pairs_, 2 do redis.call('HSET', JOBS, ARGV[1] .. ':' .. pairs_[i], pairs_[i + 1]) end
  keep(swarm, JOBS)
end
