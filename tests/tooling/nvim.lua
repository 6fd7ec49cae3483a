-- The language server through Neovim's own client: diagnostics, completion, hover, fixes, formatting and outline.
-- Run as: SERVER=path/to/burn-convexity nvim --headless -u NONE -c 'luafile tests/tooling/nvim.lua'

local failed = false

local function check(name, holds, found)
  io.stdout:write((holds and 'ok' or 'not ok') .. ' - neovim: ' .. name .. (holds and '' or ': ' .. vim.inspect(found)) .. '\n')
  failed = failed or not holds
end

local function run()
  local folder = vim.fn.tempname()
  vim.fn.mkdir(folder, 'p')
  vim.cmd('edit ' .. folder .. '/switching.json')
  local buffer = vim.api.nvim_get_current_buf()
  local client = vim.lsp.start_client({
    name = 'burn-convexity',
    cmd = { vim.env.SERVER, 'lsp' },
    root_dir = folder,
    capabilities = vim.lsp.protocol.make_client_capabilities(),
  })
  vim.lsp.buf_attach_client(buffer, client)
  check('the server starts', vim.wait(5000, function() return vim.lsp.buf_is_attached(buffer, client) end))

  local function set(lines)
    vim.api.nvim_buf_set_lines(buffer, 0, -1, false, lines)
  end
  local function text()
    return table.concat(vim.api.nvim_buf_get_lines(buffer, 0, -1, false), '\n')
  end
  local function ask(method, line, column, more)
    vim.api.nvim_win_set_cursor(0, { line, column })
    local params = vim.tbl_extend('force', vim.lsp.util.make_position_params(0, 'utf-16'), more or {})
    local answers = vim.lsp.buf_request_sync(buffer, method, params, 5000) or {}
    return (answers[client] or {}).result
  end
  local function told(count)
    vim.wait(5000, function() return #vim.diagnostic.get(buffer) == count end, 5)
    return vim.diagnostic.get(buffer)
  end

  -- Diagnostics, as the buffer changes; the crab makes columns count.
  set({ '{', '  /* 🦀 */ "metric": "iner"', '}' })
  local found = told(1)
  check('a mistake is told', #found == 1 and found[1].message:find('did you mean "inner"?', 1, true), found)
  check('at its place', found[1] and found[1].lnum == 1 and found[1].col == #'  /* 🦀 */ "metric": ', found)

  -- The fix.
  local range = { start = { line = 1, character = 25 }, ['end'] = { line = 1, character = 25 } }
  local actions = ask('textDocument/codeAction', 2, 25, { range = range, context = { diagnostics = {} } }) or {}
  local fix = vim.tbl_filter(function(action) return action.title == 'Change to "inner"' end, actions)[1]
  check('a fix is on offer', fix ~= nil, actions)
  if fix then
    vim.lsp.util.apply_workspace_edit(fix.edit, 'utf-16')
    check('and fixes', text():find('"metric": "inner"', 1, true), text())
  end
  check('nothing is left to tell', #told(0) == 0, vim.diagnostic.get(buffer))

  -- A key of an earlier version is struck out, and replaced.
  set({ '{ "detector": { "kind": "loss_slope", "longest": 8 } }' })
  found = told(1)
  local told_tags = found[1] and found[1].user_data and found[1].user_data.lsp and found[1].user_data.lsp.tags
  check('a deprecated key is told', vim.deep_equal(told_tags, { vim.lsp.protocol.DiagnosticTag.Deprecated }), found)
  range = { start = { line = 0, character = 40 }, ['end'] = { line = 0, character = 40 } }
  actions = ask('textDocument/codeAction', 1, 40, { range = range, context = { diagnostics = {} } }) or {}
  fix = vim.tbl_filter(function(action) return action.title == 'Change to "windows"' end, actions)[1]
  check('a replacement is on offer', fix and fix.isPreferred, actions)
  if fix then
    vim.lsp.util.apply_workspace_edit(fix.edit, 'utf-16')
    check('and replaces', text():find('"windows": 8', 1, true), text())
  end

  -- Completion: what is offered, and the buffer after taking it.
  set({ '{ "window": 3, "det" }' })
  local items = ask('textDocument/completion', 1, 19) or {}
  local labels = vim.tbl_map(function(item) return item.label end, items)
  check('keys are completed', vim.tbl_contains(labels, 'detector') and not vim.tbl_contains(labels, 'window'), labels)
  local item = vim.tbl_filter(function(item) return item.label == 'detector' end, items)[1]
  check('with their meaning', item and item.documentation.value:find('convex phase begins'), item)
  if item then
    vim.lsp.util.apply_text_edits({ item.textEdit }, buffer, 'utf-16')
    check('and inserted', text():find('"window": 3, "detector": { "kind": "', 1, true), text())
  end
  set({ '{ "metric": }' })
  items = ask('textDocument/completion', 1, 11) or {}
  check('values are completed', #items == 4, items)

  -- Hover.
  set({ '{ "window": 3 }' })
  local hover = ask('textDocument/hover', 1, 4)
  check('a key is explained', hover and hover.contents.value:find('Default: `null`', 1, true), hover)

  -- Formatting and outline.
  set({ '{"window":3,', '"inner":{"kind":"sgd"}}' })
  vim.bo[buffer].expandtab = true
  vim.bo[buffer].shiftwidth = 2
  if vim.lsp.buf.format then
    vim.lsp.buf.format({ timeout_ms = 5000 })
  else
    vim.lsp.buf.formatting_sync(nil, 5000)
  end
  check('the buffer is formatted', text() == '{\n  "window": 3,\n  "inner": { "kind": "sgd" }\n}', text())
  local symbols = ask('textDocument/documentSymbol', 1, 0) or {}
  check('keys are outlined', #symbols == 2 and symbols[2].name == 'inner', symbols)

  -- The end.
  local handle = vim.lsp.get_client_by_id(client)
  handle.stop()
  check('the server goes', vim.wait(5000, function() return handle.is_stopped() end))
end

local ran, message = pcall(run)
check('the test runs to its end', ran, message)
vim.cmd(failed and 'cquit' or 'qall!')
