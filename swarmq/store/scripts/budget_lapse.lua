-- uses: swarm budget branch
-- Give back what the lost holder of a branch has reserved: branches that wait for it may be in the very places at the
-- workers that its next holder needs.
-- KEYS: swarm
-- ARGV: branch id
-- Returns 1 where its lease has run out. A holder that was only paused reserves anew with its next record.
local swarm = load_swarm()
if swarm.err then return swarm end
local branch = load_branch(ARGV[1])
if not branch or branch.err or branch.state ~= 'running' or branch.alive then return 0 end
unreserve(branch)
return 1
