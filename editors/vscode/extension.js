// Starts `burn-convexity lsp` and connects the editor to it.
const { workspace } = require('vscode');
const { LanguageClient } = require('vscode-languageclient/node');

let client;

exports.activate = () => {
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
  return client.start();
};

exports.deactivate = () => client?.stop();
