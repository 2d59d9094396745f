-- Reads the LuaLS annotations of a Lua file: what is written in --- comments, and what they stand above. Returns a
-- table with the function read(). It knows the form of the annotations, not what is done with them.

local annotations = {}

-- Types ------------------------------------------------------------------------------------------------------------

local read_type

local function skip_blanks(text, at)
  return text:find("%S", at) or #text + 1
end

-- Behind the bracket that closes the one at `at`; strings in between do not matter.
local function behind_bracket(text, at)
  local depth = 0
  while at <= #text do
    local c = text:sub(at, at)
    if c == '"' then
      at = text:find('"', at + 1, true) or #text
    elseif c:find "[%(%[{<]" then
      depth = depth + 1
    elseif c:find "[%)%]}>]" and not (c == ">" and text:sub(at - 1, at - 1) == "-") then
      depth = depth - 1
      if depth == 0 then
        return at + 1
      end
    end
    at = at + 1
  end
  return nil
end

-- Behind the results of a function type: `: type, name: type`.
local function behind_results(text, at)
  repeat
    local first = skip_blanks(text, at + 1)
    local _, named = text:find("^[%a_][%w_]*:%s*", first)
    local _, rest = text:find("^%.%.%.:?%s*", first)
    local last = read_type(text, (named or rest or first - 1) + 1)
    if not last then
      return rest and rest + 1 or at
    end
    at = last
  until text:sub(at, at) ~= ","
  return at
end

-- Behind one type without "|", or nil where there is none.
local function read_primary(text, at)
  local c = text:sub(at, at)
  local last
  if c == '"' or c == "'" then
    last = (text:find(c, at + 1, true) or #text) + 1
  elseif text:find("^fun%(", at) then
    last = behind_bracket(text, at + 3)
    if last and text:find("^:%s", last) then
      last = behind_results(text, last)
    end
  elseif c:find "[%({%[]" then
    last = behind_bracket(text, at)
  else
    last = select(2, text:find("^[%a_][%w_.]*", at)) or select(2, text:find("^%-?%d+", at))
    last = last and last + 1
    if last and text:sub(last, last) == "<" then
      last = behind_bracket(text, last)
    end
  end
  while last and text:find("^[%[?]", last) do
    local _, suffix = text:find("^%[%]", last)
    if not suffix and text:sub(last, last) ~= "?" then
      break
    end
    last = (suffix or last) + 1
  end
  return last
end

--- Behind the type that begins at `at`, or nil where none does.
function read_type(text, at)
  local last = read_primary(text, at)
  while last and text:find("^|", last) do
    last = read_primary(text, last + 1)
  end
  return last
end

-- A type, and what is behind it.
local function split_type(text)
  local last = read_type(text, 1)
  if not last then
    return nil, text
  end
  return text:sub(1, last - 1), (text:sub(last):gsub("^%s+", ""))
end

--- The parameters and the results of a function type, as those of @param and @return; nil for another type.
---@param kind string
---@return table[]? params, table[]? returns
function annotations.signature(kind)
  local text = kind:match "^%((fun%(.*)%)%??$" or kind:match "^fun%(.*"
  local last = text and behind_bracket(text, 4)
  if not last then
    return nil
  end
  local params, returns = {}, {}
  local inside, at = text:sub(5, last - 2), 1
  while inside:find("%S", at) do
    local name, mark, next_at = inside:match("^[%s,]*([%w_.]+)(%??)()", at)
    local typed = inside:match("^%s*:%s*()", next_at)
    local behind = typed and read_type(inside, typed) or next_at
    local type_of = typed and inside:sub(typed, behind - 1) or "any"
    params[#params + 1] = { name = name, type = type_of .. mark, text = "" }
    at = behind
  end
  at = text:match("^:%s*()", last)
  while at and at <= #text do
    local name, first = text:match("^([%a_][%w_]*):%s*()", at)
    local behind = read_type(text, first or at)
    if not behind then
      returns[#returns + 1] = { type = text:sub(at), text = "" }
      break
    end
    returns[#returns + 1] = { type = text:sub(first or at, behind - 1), text = name or "" }
    at = text:match("^,%s*()", behind)
  end
  return params, returns
end

-- Tags --------------------------------------------------------------------------------------------------------------

local tags = {}

function tags.param(item, text)
  local name, rest = text:match "^(%S+)%s+(.*)$"
  local optional = name:sub(-1) == "?"
  local kind, what = split_type(rest)
  kind = optional and kind .. "?" or kind
  item.params[#item.params + 1] = { name = name:gsub("%?$", ""), type = kind, text = what }
  return item.params[#item.params]
end

tags["return"] = function(item, text)
  local last
  repeat
    local kind, rest = split_type(text)
    last = { type = kind, text = rest }
    item.returns[#item.returns + 1] = last
    local name, more = rest:match "^([%a_][%w_]*),%s+(.*)$"
    more = more or rest:match "^,%s*(.*)$"
    text = more and read_type(more, 1) and more or nil
    if text then
      last.text = name or ""
    end
  until not text
  return last
end

function tags.field(item, text)
  local scope, rest = text:match "^(%a+)%s+([%a_][%w_]*%??%s.*)$"
  if scope ~= "package" and scope ~= "private" and scope ~= "protected" then
    scope, rest = nil, text
  end
  local name, kind, what
  if rest:sub(1, 1) == "[" then
    local last = behind_bracket(rest, 1)
    name, rest = rest:sub(1, last - 1), rest:sub(last):gsub("^%s+", "")
  else
    name, rest = rest:match "^(%S+)%s+(.*)$"
  end
  kind, what = split_type(rest)
  if name:sub(-1) == "?" then
    name, kind = name:sub(1, -2), kind .. "?"
  end
  local field = { name = name, type = kind, text = what, hidden = scope ~= nil }
  if item.class and #item.pending > 0 then
    field.text = table.concat(item.pending, " ") .. (what ~= "" and " " .. what or "")
    item.pending = {}
  end
  item.fields[#item.fields + 1] = field
  return field
end

function tags.class(item, text)
  local name, rest = text:match "^([%w_.]+)(.*)$"
  local parent, what = rest:match "^:%s*([%w_.]+)%s*(.*)$"
  item.class = { name = name, parent = parent, text = what or rest:gsub("^%s+", "") }
  return item.class
end

function tags.alias(item, text)
  local name, rest = text:match "^([%w_.]+)%s*(.*)$"
  item.alias = { name = name, text = rest, values = {} }
  return item.alias
end

function tags.type(item, text)
  local kind, what = split_type(text)
  item.type = { type = kind, text = what }
  return item.type
end

-- For the library's other files, not for its users.
function tags.package(item)
  item.hidden = true
end

function tags.since(item, text)
  item.since = text
end

-- Comments ----------------------------------------------------------------------------------------------------------

-- One line of a --- comment. `item.last` is the tag that a line with more blanks goes on with.
local function read_line(item, line)
  local tag, rest = line:match "^%-%-%-@(%a+)%s*(.*)$"
  local value, what = line:match "^%-%-%-|%s*(.-)%s*#%s*(.*)$"
  if tag then
    item.last = tags[tag] and tags[tag](item, rest)
  elseif item.alias and (value or line:match "^%-%-%-|") then
    local values = item.alias.values
    values[#values + 1] = { value = value or line:match "^%-%-%-|%s*(.*)$", text = what or "" }
  elseif item.last and line:match "^%-%-%-%s%s+%S" then
    local more = line:match "^%-%-%-%s+(.*)$"
    item.last.text = item.last.text ~= "" and item.last.text .. " " .. more or more
  else
    local text = line:match "^%-%-%-%s?(.*)$"
    local list = item.class and item.pending or item.text -- in a class: of the next field
    list[#list + 1] = text
  end
end

-- What the code below a comment defines: a list of { owner =, name =, method =, arguments = }.
local function targets(code)
  local owner, mark, name, arguments = code:match "^function%s+([%w_]+)([.:])([%w_]+)%s*(%b())"
  if owner then
    return { { owner = owner, name = name, method = mark == ":", arguments = arguments:sub(2, -2), code = code } }
  end
  local list = {}
  local left = code:match "^([%w_., ]+)%s=[^=]"
  for one_owner, one in (left or ""):gmatch "([%a_][%w_]*)%.([%a_][%w_]*)" do
    list[#list + 1] = { owner = one_owner, name = one, code = code }
  end
  local variable = code:match "^local%s+([%a_][%w_]*)%s*=" or code:match "^local%s+function%s+([%a_][%w_]*)"
  if variable then
    list[1] = { name = variable, code = code }
  end
  return list
end

--- What a file says of itself, as a table:
---   about    the first comment
---   items    every --- comment: text, params, returns, fields, class, alias, type, since, targets, line
---   returned the name of the local that it returns
---   requires the modules that its locals hold, by name
---@param source string
function annotations.read(source)
  local file = { items = {}, requires = {}, about = {} }
  local item, number = nil, 0
  local in_about = true
  for line in (source .. "\n"):gmatch "(.-)\n" do
    number = number + 1
    local stripped = line:match "^%s*(.-)%s*$"
    if in_about and stripped:match "^%-%-[^-]" or in_about and stripped == "--" then
      file.about[#file.about + 1] = stripped:match "^%-%-%s?(.*)$"
    elseif not stripped:match "^#!" then
      in_about = false
    end
    if line:match "^%-%-%-" and not line:match "^%-%-%-%-" then
      item = item or { text = {}, params = {}, returns = {}, fields = {}, pending = {}, line = number }
      read_line(item, line)
    elseif item then
      item.targets = targets(line)
      file.items[#file.items + 1] = item
      item = nil
    end
    local name, module = line:match "^local%s+([%w_]+)%s*=%s*require%s*%(?%s*\"([%w_.]+)\""
    if name then
      file.requires[name] = module
    end
    file.returned = line:match "^return%s+([%a_][%w_]*)%s*$" or line:match "^return%s+setmetatable%(([%a_][%w_]*)"
      or file.returned
  end
  return file
end

return annotations
