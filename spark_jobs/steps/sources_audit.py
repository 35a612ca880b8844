"""Step sources.audit: started by spark-submit with orders' URIs."""

from almanac.doors import sources
from almanac.doors.job import main

if __name__ == "__main__":
    main(sources.audit, spark=False)
