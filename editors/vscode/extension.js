// Starts `burn-convexity lsp` and connects the editor to it.
const { parse } = require('jsonc-parser');
const { languages, window, workspace } = require('vscode');
const { LanguageClient } = require('vscode-languageclient/node');

const SCHEMA = 'convexity-switching.schema.json';

let client;

exports.activate = async (context) => {
  const settings = workspace.getConfiguration('burn-convexity');
  // The server leaves alone what is no configuration, so it may see every JSON file.
  const documentSelector = ['convexity', 'json', 'jsonc'].map((language) => ({ language }));
  client = new LanguageClient(
    'burn-convexity',
    { command: settings.get('command'), args: ['lsp'] },
    {
      documentSelector,
      initializationOptions: { pointers: settings.get('pointers') },
      synchronize: { configurationSection: 'burn-convexity' },
    },
  );
  // Other JSON files are formatted and outlined by the editor itself, which would ask at each of them whose turn it is.
  for (const method of ['textDocument/formatting', 'textDocument/documentSymbol']) {
    const feature = client.getFeature(method);
    const initialize = feature.initialize.bind(feature);
    feature.initialize = (capabilities) => initialize(capabilities, [{ language: 'convexity' }]);
  }

  workspace.textDocuments.forEach(adopt);
  context.subscriptions.push(workspace.onDidOpenTextDocument(adopt));
  try {
    await client.start();
  } catch {
    client = undefined;
    window.showErrorMessage(
      `${settings.get('command')} does not start. Install it with "cargo install --path . --features cli" in the folder of burn-convexity, or name ` +
        'it in the setting burn-convexity.command; then reload the window.',
    );
  }
};

exports.deactivate = () => client?.stop();

const adopted = new Set();

// A JSON file whose `$schema` says that it is a configuration becomes one; else the editor would tell everything twice.
// Once only: who turns it back to JSON wants that.
function adopt(document) {
  if (!['json', 'jsonc'].includes(document.languageId) || adopted.has(document.uri.toString())) return;
  const text = document.getText();
  if (!text.includes(SCHEMA) || !String(parse(text)?.$schema).endsWith(SCHEMA)) return;
  adopted.add(document.uri.toString());
  languages.setTextDocumentLanguage(document, 'convexity');
}
