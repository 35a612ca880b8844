"""Step features.audit: started by spark-submit with orders' URIs."""

from almanac.doors import audit
from almanac.doors.job import main

if __name__ == "__main__":
    main(audit.features, spark=False)
