"""Where the nouns of `core` are kept on S3. Only `objects` knows boto3, only `tables` knows deltalake."""
