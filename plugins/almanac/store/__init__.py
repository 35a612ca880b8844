"""Stores the nouns of `core` on S3. Only `objects` imports boto3, only `tables` imports deltalake."""
