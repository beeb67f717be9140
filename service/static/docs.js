// The API description, read by Swagger UI from the service itself.

SwaggerUIBundle({ url: "openapi.json", dom_id: "#docs", deepLinking: true, defaultModelsExpandDepth: 0 });
