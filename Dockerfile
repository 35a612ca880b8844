# One image for every Airflow and Spark service: driver and executors must have the same pyspark, to the last file.
# bookworm by name: Debian 13 has no Java 17.
FROM python:3.11-slim-bookworm

# procps: Spark's start scripts call ps.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openjdk-17-jre-headless procps \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/almanac

# The pinned packages change seldom: a layer before the code.
COPY requirements.txt ./
COPY deploy/requirements-postgres.txt deploy/
RUN pip install --no-cache-dir -r requirements.txt -r deploy/requirements-postgres.txt \
    # Spark puts these zips first on the path of every Python process, and Python compiles a zip's modules again each time. Without
    # them the installed packages are imported, which are the same code.
    && rm /usr/local/lib/python3.11/site-packages/pyspark/python/lib/*.zip

COPY pyproject.toml README.md LICENSE ./
COPY plugins plugins
COPY dags dags
COPY spark_jobs spark_jobs
COPY deploy deploy
RUN pip install --no-cache-dir --no-deps -e .

# The folders that named volumes are mounted on: a new volume takes over their owner.
RUN useradd --system --uid 50000 --create-home --home-dir /opt/airflow almanac \
    && install --directory --owner almanac --mode 0750 /opt/airflow/logs /opt/airflow/auth

# There is no checkout in the image: receipts name the commit that is given here.
ARG ALMANAC_COMMIT=""
ENV ALMANAC_COMMIT=${ALMANAC_COMMIT}

ENV AIRFLOW_HOME=/opt/airflow \
    PYSPARK_PYTHON=/usr/local/bin/python \
    PYTHONUNBUFFERED=1 \
    SPARK_CONF_DIR=/opt/almanac/deploy/spark

USER almanac
