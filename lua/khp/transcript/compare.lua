-- Compares a message as a transcript has it with the message that came, line by line, and shows the difference so that
-- it can be read beside the transcript. This file must not know what a message means.

local compare = {}

local concat, find, format, gsub, match, min, sub =
  table.concat, string.find, string.format, string.gsub, string.match, math.min, string.sub
local ipairs = ipairs

-- Larger ones are compared as a whole, and shown without looking for what is alike.
local MOST_CELLS = 250000

---@class khp.transcript.Line
---@field text string? with its line end; nil: a gap, any number of lines
---@field line integer? where it stands in the transcript

-- The lines of what stands between two gaps: "+" lines make one line together. starts: where each part of the text
-- begins, and the line of the transcript that it stands in.
local function add_lines(list, text, starts)
  local at, part = 1, 0
  while at <= #text do
    while starts and starts[part + 1] and starts[part + 1].at <= at do
      part = part + 1
    end
    local last = find(text, "\n", at, true) or #text
    list[#list + 1] = { text = sub(text, at, last), line = starts and starts[part].line }
    at = last + 1
  end
end

local function expected_lines(parts)
  local list, text, starts = {}, "", {}
  for _, part in ipairs(parts) do
    if part.text then
      starts[#starts + 1] = { at = #text + 1, line = part.line }
      text = text .. part.text
    else
      add_lines(list, text, starts)
      list[#list + 1] = { line = part.line }
      text, starts = "", {}
    end
  end
  add_lines(list, text, starts)
  return list
end

-- The least number of lines that differ, for each pair of rests: costs[i][j] from expected[i] and found[j] on. A gap
-- takes any number of lines for nothing.
local function costs_of(expected, found)
  local n, m = #expected, #found
  local costs = {}
  for i = n + 1, 1, -1 do
    local row, below = {}, costs[i + 1]
    costs[i] = row
    for j = m + 1, 1, -1 do
      local cost
      if i > n then
        cost = m + 1 - j
      elseif not expected[i].text then
        cost = j > m and below[j] or min(below[j], row[j + 1])
      elseif j > m then
        cost = below[j] + 1
      elseif expected[i].text == found[j].text then
        cost = below[j + 1]
      else
        cost = min(below[j + 1], below[j], row[j + 1]) + 1
      end
      row[j] = cost
    end
  end
  return costs
end

---@class khp.transcript.Difference
---@field mark " "|"-"|"+"|"*" alike, only expected, only found, found in a gap
---@field text string? nil: a gap
---@field line integer? of the transcript

local function walk(expected, found, costs)
  local list, i, j = {}, 1, 1
  local function add(mark, one, line)
    list[#list + 1] = { mark = mark, text = one.text, line = line }
  end
  while i <= #expected or j <= #found do
    local one, other, cost = expected[i], found[j], costs[i][j]
    if not one then
      add("+", other)
      j = j + 1
    elseif not one.text and other and cost == costs[i][j + 1] then
      add("*", other)
      j = j + 1
    elseif not one.text then
      i = i + 1
    elseif other and one.text == other.text then
      add(" ", one, one.line)
      i, j = i + 1, j + 1
    elseif other and cost == costs[i + 1][j + 1] + 1 then
      add("-", one, one.line)
      add("+", other)
      i, j = i + 1, j + 1
    elseif not other or cost == costs[i + 1][j] + 1 then
      add("-", one, one.line)
      i = i + 1
    else
      add("+", other)
      j = j + 1
    end
  end
  return list
end

local function whole(expected, found)
  local list = {}
  for _, one in ipairs(expected) do
    list[#list + 1] = { mark = "-", text = one.text, line = one.line }
  end
  for _, one in ipairs(found) do
    list[#list + 1] = { mark = "+", text = one.text }
  end
  return list
end

--- Is this the message that is expected?
---@param parts khp.transcript.Part[] as the reader gives them; none: no message is expected
---@param bytes string? nil: no message came
---@return khp.transcript.Difference[]? differences nil: it is
function compare.message(parts, bytes)
  local expected, found = expected_lines(parts), {}
  add_lines(found, bytes or "")
  if (#expected + 1) * (#found + 1) > MOST_CELLS then
    local texts = {}
    for i, one in ipairs(expected) do
      texts[i] = one.text
    end
    return (#texts < #expected or concat(texts) ~= bytes) and whole(expected, found) or nil
  end
  local costs = costs_of(expected, found)
  if costs[1][1] == 0 and bytes then
    return nil
  end
  return walk(expected, found, costs)
end

-- A line as the transcript would have it: "| text" where CR LF ends it, else "+ text" with escapes.
local function show(text)
  if not text then
    return "*"
  end
  local plain = match(text, "^([\t\32-\126\128-\255]*)\r\n$")
  if plain then
    return plain == "" and "|" or "| " .. plain
  end
  local names = { ["\r"] = "\\r", ["\n"] = "\\n", ["\t"] = "\\t", ["\\"] = "\\\\" }
  return "+ " .. gsub(text, "[%c\\\127]", function(c)
    return names[c] or format("\\x%02X", c:byte())
  end)
end

--- Shows differences, one line each: "-" is expected and did not come, "+" came and is not expected, "*" came where
--- anything may come.
---@param differences khp.transcript.Difference[]
---@param path string of the transcript
---@return string[]
function compare.show(differences, path)
  local lines, place = {}, ""
  for i, one in ipairs(differences) do
    place = one.line and format("%s:%d:", path, one.line) or (" "):rep(#place)
    lines[i] = format("%s %s %s", place, one.mark, show(one.text))
  end
  return lines
end

return compare
