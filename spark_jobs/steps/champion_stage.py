"""Step champion.stage: started by spark-submit with orders' URIs."""

from almanac.doors import stage
from almanac.doors.job import main

if __name__ == "__main__":
    main(stage.champion, spark=False)
