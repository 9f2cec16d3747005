-- ARGV: 1 generation, 2 revision that the caller knows, 3 to 13 limits. KEYS: m, e. Another revision is another
-- caller's change, which must not be undone unseen.
local m = call('HMGET', M, 'g', 'rev')
if m[1] ~= ARGV[1] then return 'GEN' end
if num(m[2]) ~= tonumber(ARGV[2]) then return 'CONFLICT' end
tell('s', '')
for j = 1, #LIMITS do call('HSET', M, LIMITS[j], ARGV[2 + j]) end
call('HSET', M, 'rev', num(m[2]) + 1)
return { tostring(num(m[2]) + 1) }
