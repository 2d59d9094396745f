-- Starts busted under the Lua that runs this file. The program that distributions ship names an interpreter of its own,
-- which may be another version than the one the module is built for.
require "busted.runner" { standalone = false }
