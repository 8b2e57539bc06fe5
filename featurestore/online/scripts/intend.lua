-- Begin a batch whose groups lie in other slots than its source: check and move the position, and
-- keep what is to be written to each group in a redo log beside it. This is the batch's commit.
--
-- KEYS     positions (hash), redo log (hash), number of the source's last batch (string)
-- ARGV[1]  a name for the batch that no other has
-- ARGV[2]  how many parts; then partition, start, next for each; then group and batch (as put.lua
--          takes it) for each group
-- Answer   {'pending'} while an earlier batch waits in the redo log, {'conflict', positions...},
--          or {'begun', number}

local call = redis.call

if call('EXISTS', KEYS[2]) == 1 then
  return {'pending'}
end

local at, moved, fields = 3, {}, {}
for _ = 1, tonumber(ARGV[2]) do
  local partition, start, following = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local stands = moved[partition] or call('HGET', KEYS[1], partition)
  if stands and stands ~= start then
    local stored = call('HGETALL', KEYS[1])
    table.insert(stored, 1, 'conflict')
    return stored
  end
  moved[partition] = following
  fields[#fields + 1] = {partition, following}
  at = at + 3
end

-- By the clock, so that numbers also rise when a failover lost the last ones.
local time = call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local number = math.max(tonumber(call('GET', KEYS[3]) or '0') + 1, now)
local text = string.format('%.0f', number)
call('SET', KEYS[3], text)
for _, field in ipairs(fields) do
  call('HSET', KEYS[1], field[1], field[2])
end
if ARGV[at] then
  call('HSET', KEYS[2], 'name', ARGV[1], 'number', text)
  while ARGV[at] do
    call('HSET', KEYS[2], ARGV[at], ARGV[at + 1])
    at = at + 2
  end
end
return {'begun', text}
