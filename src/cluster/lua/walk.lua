-- ARGV: 1 generation. KEYS: m; the buckets; the names of each. Strips the buckets of entries whose index has ended, and
-- takes back the names of users without one.
local m = call('HMGET', M, 'g', 'here')
if m[1] ~= ARGV[1] then return 'GEN' end
local half = (#KEYS - 1) / 2
for k = 2, half + 1 do
  local l = call('HGETALL', KEYS[k])
  for x = 1, #l, 2 do
    local v, r = l[x + 1], ''
    for p = 1, #v, 5 do
      local a, b = byte(v, p, p + 1)
      if bit(m[2], a * 256 + b) then r = r .. sub(v, p, p + 4) end
    end
    if r == '' then
      call('HDEL', KEYS[k], l[x])
      if sub(l[x], 1, 1) == 'u' then call('HDEL', KEYS[k + half], sub(l[x], 2)) end
    elseif r ~= v then call('HSET', KEYS[k], l[x], r) end
  end
end
return '+'
