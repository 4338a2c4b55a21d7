"use strict";

SwaggerUIBundle({
  url: "openapi.json?version=3.2",
  dom_id: "#docs",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  validatorUrl: null, // the default sends the document to validator.swagger.io
});
