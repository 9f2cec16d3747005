-- ARGV: 1 generation, 2 index, 3 identity. The caller must be the owner of the index in this generation.
local I = ARGV[2]
local me = tonumber(I)
local head = call('HMGET', M, 'g', 'n' .. I)
if head[1] ~= ARGV[1] then return 'GEN' end
if head[2] ~= ARGV[3] then return 'FENCED' end -- rule: fence
