-- ARGV 4: number of the beat, 5: last beat that was answered, 6: last call that was answered, 7: index from which the
-- rotating part of the members starts. Tells the limits and the drain in force, too.
local v = call('HMGET', M, 'l' .. I, 's' .. I, 'live', 'up', 'here', 'born', 'rev', 'gc', 'og', 'dn', 'du', 'dr', 'en', 'T', 'dt')
if num(v[1]) < tonumber(ARGV[5]) or num(v[2]) < tonumber(ARGV[6]) then return 'LOST' end -- rule: lost
-- A late copy must not bring an older number back.
if tonumber(ARGV[4]) > num(v[1]) then call('HSET', M, 'l' .. I, ARGV[4]) end
local live, up, here = v[3], v[4], v[5]
local time = call('TIME')
local ms = time[1] * 1000 + floor(time[2] / 1000)
call('HSET', M, 't' .. I, ms)
local joining = 0
for p = 1, #here do
  if byte(here, p) ~= (byte(up, p) or 0) then
    for i = p * 8 - 8, p * 8 - 1 do if i ~= me and bit(here, i) and not bit(up, i) then joining = joining + 1 end end
  end
end
local told, list, fields = {}, {}, {}
-- The 32 members after the caller, and 32 that rotate: the death of many at once is seen by the others.
local function tell(from)
  local n, size = 0, #here * 8
  for step = 1, size do
    local i = (from + step) % size
    if i ~= me and bit(here, i) then
      if not told[i] then
        told[i] = true
        list[#list + 1] = i; fields[#fields + 1] = 'n' .. i; fields[#fields + 1] = 'l' .. i
      end
      n = n + 1
      if n == 32 then return end
    end
  end
end
tell(me)
tell(tonumber(ARGV[7]))
local out = {}
if #list > 0 then
  local w = call('HMGET', M, unpack(fields))
  for j = 1, #list do out[#out + 1] = list[j]; out[#out + 1] = w[2 * j - 1] or ''; out[#out + 1] = w[2 * j] or '' end
end
-- The lowest member that is up cleans.
local cleaner = 1
for p = 1, floor(me / 8) + 1 do
  if (byte(up, p) or 0) ~= 0 then
    for i = p * 8 - 8, p * 8 - 1 do if i < me and bit(up, i) then cleaner = 0 end end
    break
  end
end
-- Only the cleaner needs the dead: after the end of many, a list for each beat would cost the server more than the beat.
local dead, gc = {}, v[8]
if cleaner == 1 then
  for i = 0, #gc * 8 - 1 do
    if byte(gc, floor(i / 8) + 1) ~= 0 and #dead < 128 and bit(gc, i) then dead[#dead + 1] = i; dead[#dead + 1] = call('HGET', M, 'c' .. i) or '' end
  end
end
-- A clock that was set back must not make a drain longer than it was asked for.
local left = math.min(num(v[11]) - ms, num(v[15]))
return { ms - num(v[6]), joining, ones(live), num(v[7]), cleaner, v[9], dead, out, num(v[10]), left > 0 and left or 0,
  v[12] or '', num(v[13]), num(v[14]), limits() }
