-- ARGV: 1 identity, 2 node, 3 run id of the server, 4 new generation, 5 new secret, 6 generation that has lost
-- something, 7 generation to forget, 8 revision of the limits, 9 to 15 limits
local m = call('HMGET', M, 'g', 'run', 'k', 'og', 'rev')
local g = m[1]
local time = call('TIME')
local ms = time[1] * 1000 + floor(time[2] / 1000)
local NAMES = { 'lT', 'lP', 'lI', 'lU', 'lA', 'lAI', 'lX' }
local lost = not g
lost = lost or m[2] ~= ARGV[3] -- rule: run
lost = lost or g == ARGV[6] -- rule: replace
if lost then
  local old = m[4] or ''
  for _, o in ipairs({ g or '', ARGV[7] }) do
    if o ~= '' and not string.find(old, o, 1, true) then old = old .. o .. ',' end
  end
  local limits = call('HMGET', M, unpack(NAMES))
  call('HSET', M, 'w', 1)
  call('DEL', M)
  g = ARGV[4]
  call('HSET', M, 'g', g, 'run', ARGV[3], 'born', ms, 'k', m[3] or ARGV[5], 'T', 0, 'A', 0, 'live', '', 'up', '',
    'here', '', 'gc', '', 'og', sub(old, -512))
  if m[5] then
    call('HSET', M, 'rev', m[5])
    for j = 1, #NAMES do if limits[j] then call('HSET', M, NAMES[j], limits[j]) end end
  end
end
local rev = tonumber(call('HGET', M, 'rev') or -1)
if tonumber(ARGV[8]) > rev then
  rev = tonumber(ARGV[8])
  call('HSET', M, 'rev', rev)
  for j = 1, #NAMES do call('HSET', M, NAMES[j], ARGV[8 + j]) end
end
local v = call('HMGET', M, 'live', 'here', 'gc', 'born', 'k')
local live, here, gc = v[1], v[2], v[3]
local index, known, free
local counted = true
local node = ARGV[2] .. '.'
for i = 0, 4095 do
  if bit(here, i) then
    local n = call('HGET', M, 'n' .. i)
    if n == ARGV[1] then known = i end
    -- A node is never counted twice: `activate` hands the count over.
    if n and sub(n, 1, #node) == node and bit(live, i) then counted = false end
  elseif not free and not bit(gc, i) then
    free = i
  end
  if free and i >= #here * 8 then break end
end
index = known or free
if not index then return 'FULL' end
if not known then
  if counted then live = with(live, index, true) end
  call('HSET', M, 'here', with(here, index, true), 'live', live, 'n' .. index, ARGV[1], 'l' .. index, 0,
    's' .. index, 0, 'r' .. index, '+', 'T' .. index, 0, 'A' .. index, 0)
end
local differs = 0
local set = call('HMGET', M, unpack(NAMES))
for j = 1, #NAMES do if set[j] ~= ARGV[8 + j] then differs = 1 end end
return { index, g, ms - num(v[4]), v[5], ones(live), rev, differs }
