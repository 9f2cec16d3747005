-- ARGV: 1 cursor. KEYS: m, e, v. Returns the next cursor, then text and expiry of some revocations.
local r = call('ZSCAN', KEYS[3], ARGV[1], 'COUNT', 500)
local out = { r[1] }
for a = 1, #r[2] do out[#out + 1] = r[2][a] end
return out
