-- ARGV: 1 identity, 2 node, 3 run id of the server, 4 new generation, 5 new secret, 6 generation that has lost
-- something, 7 generations to forget, with commas between, 8 revision of the limits, 9 to 19 limits, 20 name of the
-- process, 21 number of the latest drain that it knows, 22 the milliseconds that are left of it, 23 its reason
local m = call('HMGET', M, 'g', 'run', 'k', 'og', 'rev', 'dn', 'du', 'dr', 'dt')
local g = m[1]
local time = call('TIME')
local ms = time[1] * 1000 + floor(time[2] / 1000)
local lost = not g
lost = lost or m[2] ~= ARGV[3] -- rule: run
lost = lost or g == ARGV[6] -- rule: replace
local present, old = lost and ARGV[4] or g, m[4] or ''
-- The first one to join may know of no earlier generation, so each tells those that it knows.
for o in string.gmatch((g or '') .. ',' .. ARGV[7], '[^,]+') do
  if o ~= present and not string.find(old, o, 1, true) then old = old .. o .. ',' end
end
old = sub(old, -512)
if lost then
  local before = limits()
  call('HSET', M, 'w', 1)
  call('DEL', M)
  g = ARGV[4]
  call('HSET', M, 'g', g, 'run', ARGV[3], 'born', ms, 'k', m[3] or ARGV[5], 'T', 0, 'A', 0, 'live', '', 'up', '',
    'here', '', 'gc', '', 'og', old)
  if m[5] then
    call('HSET', M, 'rev', m[5])
    for j = 1, #LIMITS do if before[j] then call('HSET', M, LIMITS[j], before[j]) end end
  end
  if m[6] then call('HSET', M, 'dn', m[6], 'du', m[7], 'dr', m[8], 'dt', m[9] or 0) end
elseif old ~= (m[4] or '') then call('HSET', M, 'og', old) end
local rev = tonumber(call('HGET', M, 'rev') or -1)
if tonumber(ARGV[8]) > rev then
  rev = tonumber(ARGV[8])
  call('HSET', M, 'rev', rev)
  for j = 1, #LIMITS do call('HSET', M, LIMITS[j], ARGV[8 + j]) end
end
-- A server that has lost everything learns of the drain, and of its end, from those who know it.
if tonumber(ARGV[21]) > num(call('HGET', M, 'dn')) then
  call('HSET', M, 'dn', ARGV[21], 'du', tonumber(ARGV[22]) > 0 and ms + tonumber(ARGV[22]) or 0, 'dr', ARGV[23],
    'dt', ARGV[22])
end
local v = call('HMGET', M, 'live', 'here', 'gc', 'born', 'k')
local live, here, gc = v[1], v[2], v[3]
local index, known, free
local counted = true
local node = ARGV[2] .. '.'
owners(here, function(i, n)
  if n == ARGV[1] then known = i end
  -- A node is never counted twice: `activate` hands the count over.
  if sub(n, 1, #node) == node and bit(live, i) then counted = false end
end)
for i = 0, 4095 do
  if not bit(here, i) and not bit(gc, i) then free = i; break end
end
index = known or free
if not index then return 'FULL' end
if not known then
  if counted then live = with(live, index, true) end
  call('HSET', M, 'here', with(here, index, true), 'live', live, 'n' .. index, ARGV[1], 'l' .. index, 0,
    's' .. index, 0, 'r' .. index, '+', 'T' .. index, 0, 'A' .. index, 0, 't' .. index, ms,
    'N' .. index, ARGV[20])
end
return { index, g, ms - num(v[4]), v[5], ones(live), rev, limits() }
