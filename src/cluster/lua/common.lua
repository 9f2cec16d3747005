-- Part of every script. KEYS[1] is the hash `m`; lines that end in "rule: name" are safety rules.
local call, byte, sub, char, floor = redis.call, string.byte, string.sub, string.char, math.floor
local M = KEYS[1]
local function num(x) return tonumber(x or 0) end
-- Bitmaps of indexes: bit i of byte i / 8.
local function bit(s, i) return floor((byte(s or '', floor(i / 8) + 1) or 0) / 2 ^ (i % 8)) % 2 == 1 end
local function with(s, i, on)
  s = s or ''
  if bit(s, i) == on then return s end
  local p = floor(i / 8) + 1
  if #s < p then s = s .. string.rep('\0', p - #s) end
  local b = byte(s, p) + (on and 1 or -1) * 2 ^ (i % 8)
  return sub(s, 1, p - 1) .. char(b) .. sub(s, p + 1)
end
local ONES = { [0] = 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4 }
local function ones(s)
  local n = 0
  for p = 1, #s do
    local b = byte(s, p)
    if b ~= 0 then n = n + ONES[b % 16] + ONES[floor(b / 16)] end
  end
  return n
end
-- Calls f with each index of the bitmap and its owner; one call for 256 of them.
local function owners(here, f)
  local list, fields = {}, {}
  local function ask()
    if #list == 0 then return end
    local n = call('HMGET', M, unpack(fields))
    for j = 1, #list do if n[j] then f(list[j], n[j]) end end
    list, fields = {}, {}
  end
  for p = 1, #here do
    if byte(here, p) ~= 0 then
      for i = p * 8 - 8, p * 8 - 1 do if bit(here, i) then list[#list + 1] = i; fields[#fields + 1] = 'n' .. i end end
      if #list >= 256 then ask() end
    end
  end
  ask()
end
-- Ends an index: its seats are free from here on. `gc` keeps it from being given out again until no
-- bucket holds an entry of it.
local function finish(i)
  local v = call('HMGET', M, 'n' .. i, 'T' .. i, 'A' .. i, 'T', 'A', 'live', 'up', 'here', 'gc')
  local T, A = num(v[4]), num(v[5])
  if bit(v[6], i) then T = T - num(v[2]); A = A - num(v[3]) end
  call('HSET', M, 'T', T, 'A', A, 'live', with(v[6], i, false), 'up', with(v[7], i, false),
    'here', with(v[8], i, false), 'gc', with(v[9], i, true), 'c' .. i, v[1] or '')
  call('HDEL', M, 'n' .. i, 'l' .. i, 's' .. i, 'r' .. i, 'T' .. i, 'A' .. i, 't' .. i, 'N' .. i)
end
local LIMITS = { 'lT', 'lP', 'lI', 'lU', 'lA', 'lAI', 'lX', 'qI', 'bI', 'qU', 'bU' }
local function limits()
  local l = call('HMGET', M, unpack(LIMITS))
  for j = 1, #LIMITS do l[j] = l[j] or '0' end
  return l
end
-- An event: the stream is KEYS[2], unless another key is named. The number shows a reader that it has missed one.
local function tell(kind, data, stream)
  local n = call('HINCRBY', M, 'en', 1)
  call('XADD', stream or KEYS[2], 'MAXLEN', '~', 10000, '*', 'g', call('HGET', M, 'g') or '', 'n', n, 'k', kind, 'd', data)
end
-- True for a call that has not run yet, of the last ones: a late copy must not repeat a command.
local function once(id)
  local q = call('HGET', M, 'q') or ''
  if string.find(q, id .. ',', 1, true) then return false end
  call('HSET', M, 'q', sub(q .. id .. ',', -1024))
  return true
end
