-- ARGV: 1 generation, 2 index, 3 its owner, 4 its last beat. Nothing if it has beaten since.
if call('HGET', M, 'g') ~= ARGV[1] then return 'GEN' end
local v = call('HMGET', M, 'n' .. ARGV[2], 'l' .. ARGV[2])
if v[1] ~= ARGV[3] or v[2] ~= ARGV[4] then return '+0' end
tell('d', string.match(ARGV[3], '^[^.]+') .. ' ' .. (call('HGET', M, 'N' .. ARGV[2]) or ''))
finish(tonumber(ARGV[2]))
return '+1'
