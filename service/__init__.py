"""What users meet: answers as JSON, the REST API, the command line, pictures and the demo."""
