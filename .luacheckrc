-- The library keeps to what Lua 5.1 to 5.4 and LuaJIT have in common; what it uses beyond that it asks for by name.
std = "lua54"
max_line_length = 120
self = false
exclude_files = { "build" }

files["lua"] = {
  std = "min",
  read_globals = {
    "unpack", "loadstring", "setfenv", "getfenv", "jit",
    coroutine = { fields = { "close" } },
    table = { fields = { "unpack", "pack" } },
    debug = { fields = { "upvalueid" } },
  },
}
files["spec"].std = "lua54+busted"
-- What stands in a policy's environment. Their tests show messages as long as they are.
files["examples/policies"] = {
  read_globals = { "accept", "challenge", "redirect", "reject", "khp" },
  max_string_line_length = false,
}
