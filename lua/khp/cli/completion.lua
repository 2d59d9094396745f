-- khp completion SHELL: what a shell needs to complete khp's commands and options. This file must not know them.

local cli = require "khp.cli"

local completion = {
  summary = "prints what bash, zsh or fish needs to complete khp's commands",
  usage = "bash|zsh|fish",
  description = [[
Prints what a shell needs to complete khp's commands and options.]],
  examples = [[
source <(khp completion bash)            in ~/.bashrc
khp completion zsh > ~/.zfunc/_khp       a folder of zsh's fpath
khp completion fish > ~/.config/fish/completions/khp.fish]],
}

local SHELLS = { "bash", "zsh", "fish" }

---@param command table
function completion.describe(command)
  command:argument "SHELL":target "shell":description("bash, zsh or fish."):choices(SHELLS)
end

-- What argparse leaves out for bash: the shells after this command; and what it says twice: --help.
local function for_bash(text)
  text = text:gsub('opts="%$opts ', 'opts="')
  return (text:gsub("(\n    esac\n\n    if %[%[)", ([[

        'completion')
            COMPREPLY=($(compgen -W "%s" -- "$cur"))
            ;;%%1]]):format(table.concat(SHELLS, " ")), 1))
end

-- For fish, too.
local function for_fish(text)
  return ("%s\ncomplete -c khp -n '__fish_khp_seen_command completion' -xa '%s'\n"):format(text,
    table.concat(SHELLS, " "))
end

--- The text for a shell.
---@param shell "bash"|"zsh"|"fish"
---@return string
function completion.text(shell)
  local parser = require("khp.cli.frame").parser()
  local text = parser["get_" .. shell .. "_complete"](parser)
  return shell == "bash" and for_bash(text) or shell == "fish" and for_fish(text) or text
end

---@param given table
---@return integer status
function completion.run(given)
  cli.write(completion.text(given.shell))
  return cli.OK
end

return completion
