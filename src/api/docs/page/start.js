"use strict";

window.ui = SwaggerUIBundle({
  url: "../openapi.json",
  dom_id: "#page",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  defaultModelExpandDepth: 3,
  // The badge of the validator would send the document's address to another host.
  validatorUrl: null,
  // A token is forgotten with the page: whatever runs in this origin later could read it from the browser's storage.
  persistAuthorization: false,
  queryConfigEnabled: false,
  onComplete: () => {
    document.title = window.ui.specSelectors.info().get("title");
  },
});
