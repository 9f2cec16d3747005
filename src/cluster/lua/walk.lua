-- ARGV: 1 generation. Strips the buckets of entries whose index has ended.
local m = call('HMGET', M, 'g', 'here')
if m[1] ~= ARGV[1] then return 'GEN' end
for k = 2, #KEYS do
  local l = call('HGETALL', KEYS[k])
  for x = 1, #l, 2 do
    local v, r = l[x + 1], ''
    for p = 1, #v, 5 do
      local a, b = byte(v, p, p + 1)
      if bit(m[2], a * 256 + b) then r = r .. sub(v, p, p + 4) end
    end
    if r == '' then call('HDEL', KEYS[k], l[x]) elseif r ~= v then call('HSET', KEYS[k], l[x], r) end
  end
end
return '+'
